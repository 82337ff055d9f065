"""`python -m longgen`: the command `longgen`."""

from longgen.cli import main

if __name__ == "__main__":
    main()
