"""Every client dialect before every provider dialect: raw requests, each frame held against the vendors' own types."""
