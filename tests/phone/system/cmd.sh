#!/system/bin/sh
# cmd power|thermalservice|connectivity|wifi|battery …: what bench asks of Android's services; state of this boot in /mnt/volatile.
volatile=/mnt/volatile
case "$1 $2" in
"power set-fixed-performance-mode-enabled")
    if [ "$(getprop phone.fixed_performance)" != 1 ]; then
        echo "Failed to set FIXED_PERFORMANCE mode" >&2
        echo "This is likely because Power HAL AIDL is not implemented on this device" >&2
        exit 255
    fi
    case $3 in true|false) echo "$3" > $volatile/fixed_performance;; *) echo "Argument expected after \"$2\"" >&2; exit 255;; esac;;
"power set-mode") exec settings put global low_power "$3";;
"thermalservice override-status") echo "$3" > $volatile/thermal_override;;
"thermalservice reset") rm -f $volatile/thermal_override;;
"connectivity airplane-mode")
    case $3 in
    enable) settings put global airplane_mode_on 1;;
    disable) settings put global airplane_mode_on 0;;
    "") if [ "$(settings get global airplane_mode_on)" = 1 ]; then echo enabled; else echo disabled; fi;;
    *) echo "Invalid argument: $3" >&2; exit 255;;
    esac;;
"wifi set-wifi-enabled")
    case $3 in enabled) settings put global wifi_on 1;; disabled) settings put global wifi_on 0;; *) exit 255;; esac;;
"wifi status") if [ "$(settings get global wifi_on)" = 1 ]; then echo "Wifi is enabled"; else echo "Wifi is disabled"; fi;;
*) echo "cmd: Can't find service: $1" >&2; exit 20;;
esac
