"""The wiring of the application: settings, urls, ASGI, checks, and how every API answers."""
