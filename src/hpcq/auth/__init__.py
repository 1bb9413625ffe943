"""Authentication: who asks, recognised in one of several ways."""
