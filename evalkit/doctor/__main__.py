"""python -m evalkit.doctor"""

from evalkit.cli.tools import main
from evalkit.doctor import __doc__ as usage
from evalkit.doctor.command import doctor

if __name__ == "__main__":
    main(doctor, usage or "")
