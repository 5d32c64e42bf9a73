"""The bus: its client, its subjects and its messages."""
