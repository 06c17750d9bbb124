"""`rapid sources`."""
import typer
app = typer.Typer()
