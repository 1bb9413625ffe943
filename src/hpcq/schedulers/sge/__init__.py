"""Grid Engine: Son of Grid Engine 8.1, OGS/GE 2011.11, Sun Grid Engine 6.2."""
