#!/system/bin/sh
# settings get|put|delete|list NAMESPACE [NAME [VALUE]]: one file a setting under /data/system/settings; they survive a reboot.
set -f
verb=$1 space=$2 name=$3
case $space in global|system|secure) ;; *) echo "Invalid namespace '$space'" >&2; exit 255;; esac
case $name in */*|.*) echo "Invalid name '$name'" >&2; exit 255;; esac
folder=/data/system/settings/$space
case $verb in
get) if [ -f "$folder/$name" ]; then cat "$folder/$name"; else echo null; fi;;
put)
    [ $# -ge 4 ] || { echo "Bad arguments" >&2; exit 255; }
    print -r -- "$4" > "$folder/$name";;
delete)
    if [ -f "$folder/$name" ]; then rm "$folder/$name"; echo "Deleted 1 rows"; else echo "Deleted 0 rows"; fi;;
list) set +f; for one in "$folder"/*; do [ -f "$one" ] && echo "${one##*/}=$(cat "$one")"; done;;
*) echo "Invalid command: $verb" >&2; exit 255;;
esac
