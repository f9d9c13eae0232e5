"""`python -m retrank`."""

from retrank.cli import main

if __name__ == "__main__":
    main()
