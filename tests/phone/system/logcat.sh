#!/system/bin/sh
# logcat -d …: all that the phone has in its log.
cat /data/vendor/phone/log
