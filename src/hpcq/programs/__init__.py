"""Programs that a site has installed, read from its folders, its catalogue or its modules."""
