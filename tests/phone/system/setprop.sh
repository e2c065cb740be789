#!/system/bin/sh
# setprop NAME VALUE: the shell user may set what is named debug., log. and security.perf_harden.
[ $# -eq 2 ] || { echo "setprop: needs NAME VALUE" >&2; exit 1; }
case $1 in
debug.*|log.*|security.perf_harden) echo "$1=$2" >> /mnt/volatile/properties;;
*) echo "setprop: failed to set property '$1' to '$2'" >&2; exit 1;;
esac
