#!/bin/sh
# libraries.sh PROGRAM: the libraries and the program loader that PROGRAM needs, one path a line.
ldd "$1" 2>/dev/null | sed -nE 's/.*=> (\/[^ ]+) .*/\1/p; s/^[[:space:]]*(\/[^ ]+) .*/\1/p'
