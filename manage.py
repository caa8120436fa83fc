#!/usr/bin/env python
"""Django's entry point."""

from console.__main__ import main

if __name__ == "__main__":
    main()
