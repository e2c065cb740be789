#!/system/bin/sh
# getprop [NAME [DEFAULT]]: properties of /system/build.prop; what setprop set comes first.
set -f
look() {
    while IFS= read -r line; do
        case $line in "$1="*) value=${line#*=}; found=1; [ -n "$2" ] || return;; esac
    done
}
if [ $# -eq 0 ]; then
    while IFS= read -r line; do
        [ -n "$line" ] && echo "[${line%%=*}]: [${line#*=}]"
    done < /system/build.prop
    exit 0
fi
value= found=
[ -r /mnt/volatile/properties ] && look "$1" last < /mnt/volatile/properties
[ -n "$found" ] || look "$1" "" < /system/build.prop
[ -n "$found" ] || value=$2
echo "$value"
