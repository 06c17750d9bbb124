"""How the processes are watched: metrics, whether they live, whether they are ready."""
