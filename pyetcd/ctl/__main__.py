"""`python -m pyetcd.ctl` is pyetcdctl."""

from pyetcd.ctl.main import main

main()
