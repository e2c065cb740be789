#!/system/bin/sh
# dumpsys battery|thermalservice|power|meminfo PID|android.hardware.thermal.IThermal/default
phone=/data/vendor/phone
case $1 in
battery) echo "Current Battery Service state:"; cat $phone/battery;;
thermalservice)
    override=false status=$(cat $phone/thermal_status)
    if [ -f /mnt/volatile/thermal_override ]; then override=true status=$(cat /mnt/volatile/thermal_override); fi
    echo "IsStatusOverride: $override"
    printf 'ThermalEventListeners:\n\tcallbacks: 2\n\tkilled: false\n\tbroadcasts count: -1\n'
    printf 'ThermalStatusListeners:\n\tcallbacks: 2\n\tkilled: false\n\tbroadcasts count: -1\n'
    echo "Thermal Status: $status"
    echo "Cached temperatures:"; cat $phone/temperatures_cached
    printf 'HAL Ready: true\nHAL connection:\n\tThermalHAL 2.0 connected: yes\n'
    echo "Current temperatures from HAL:"; cat $phone/temperatures
    echo "Current cooling devices from HAL:"; cat $phone/cooling;;
power)
    echo "POWER MANAGER (dumpsys power)"; echo
    echo "Power Manager State:"
    echo "  mWakefulness=$(cat /mnt/volatile/screen)"
    echo "  mStayOnWhilePluggedInSetting=$(settings get global stay_on_while_plugged_in)"
    echo "  mFixedPerformanceMode=$(cat /mnt/volatile/fixed_performance)";;
meminfo)
    [ -r "/proc/$2/status" ] || { echo "No process found for: $2"; exit 0; }
    rss=$(grep VmRSS "/proc/$2/status" | tr -dc 0-9)
    echo "** MEMINFO in pid $2 **"
    echo "           TOTAL PSS:   $rss            TOTAL RSS:   $rss       TOTAL SWAP PSS:        0";;
*) echo "Can't find service: $1" >&2;;
esac
