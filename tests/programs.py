"""The command lines of all programs."""

import fpga.__main__
import golden.__main__
import rtl_gen.__main__
import sim.__main__

PROGRAMS = {
    "golden": golden.__main__.main,
    "rtl_gen": rtl_gen.__main__.main,
    "sim": sim.__main__.main,
    "fpga": fpga.__main__.main,
}
