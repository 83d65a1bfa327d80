"""The limiter against every way in which the service may count."""
