"""Wires to the venues: HTTP, WebSocket, the types of their messages, their rate limits, and retries."""
