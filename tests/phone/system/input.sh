#!/system/bin/sh
# input keyevent CODE: 224 wakes the screen, 223 lets it sleep, 26 toggles it, 82 does nothing.
[ "$1" = keyevent ] || { echo "Error: Unknown command: $1" >&2; exit 255; }
screen=$(cat /mnt/volatile/screen)
case $2 in
224|KEYCODE_WAKEUP) screen=Awake;;
223|KEYCODE_SLEEP) screen=Asleep;;
26|KEYCODE_POWER) if [ "$screen" = Awake ]; then screen=Asleep; else screen=Awake; fi;;
esac
echo $screen > /mnt/volatile/screen
