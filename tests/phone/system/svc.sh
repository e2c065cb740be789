#!/system/bin/sh
# svc power stayon …, svc wifi|data|bluetooth enable|disable: settings under other names.
case "$1 $2" in
"power stayon")
    case $3 in
    true) value=7;; false) value=0;; ac) value=1;; usb) value=2;; wireless) value=4;;
    *) echo "usage: svc power stayon [true|false|usb|ac|wireless]" >&2; exit 1;;
    esac
    exec settings put global stay_on_while_plugged_in $value;;
"wifi enable") exec settings put global wifi_on 1;;
"wifi disable") exec settings put global wifi_on 0;;
"data enable") exec settings put global mobile_data 1;;
"data disable") exec settings put global mobile_data 0;;
"bluetooth enable") exec settings put global bluetooth_on 1;;
"bluetooth disable") exec settings put global bluetooth_on 0;;
*) echo "Available commands: power, data, wifi, bluetooth" >&2; exit 1;;
esac
