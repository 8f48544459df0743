"""The hallway: serve.py tells the story, each stage is one file. It knows neither sockets nor ASGI."""
