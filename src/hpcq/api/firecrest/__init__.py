"""``/firecrest``: the API of FirecREST 2, as far as both services have the same to offer."""
