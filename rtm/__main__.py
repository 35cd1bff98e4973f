"""`python -m rtm` is the command `rtm`."""

from rtm.cli import main

if __name__ == "__main__":
    main()
