#!/system/bin/sh
# dumpsys battery|thermalservice|power|meminfo PID|android.hardware.thermal.IThermal/default
# Built-ins only where they do: a program started under emulation costs what all of the real dumpsys does.
phone=/data/vendor/phone
show() { print -r -- "$(<$1)"; }
case $1 in
battery) echo "Current Battery Service state:"; show $phone/battery;;
thermalservice)
    override=false status=$(<$phone/thermal_status)
    if [ -f /mnt/volatile/thermal_override ]; then override=true status=$(</mnt/volatile/thermal_override); fi
    echo "IsStatusOverride: $override"
    print 'ThermalEventListeners:\n\tcallbacks: 2\n\tkilled: false\n\tbroadcasts count: -1'
    print 'ThermalStatusListeners:\n\tcallbacks: 2\n\tkilled: false\n\tbroadcasts count: -1'
    echo "Thermal Status: $status"
    echo "Cached temperatures:"; show $phone/temperatures_cached
    print 'HAL Ready: true\nHAL connection:\n\tThermalHAL 2.0 connected: yes'
    echo "Current temperatures from HAL:"; show $phone/temperatures
    echo "Current cooling devices from HAL:"; show $phone/cooling;;
power)
    echo "POWER MANAGER (dumpsys power)"; echo
    echo "Power Manager State:"
    echo "  mWakefulness=$(</mnt/volatile/screen)"
    setting=/data/system/settings/global/stay_on_while_plugged_in
    if [ -f $setting ]; then setting=$(<$setting); else setting=null; fi
    echo "  mStayOnWhilePluggedInSetting=$setting"
    echo "  mFixedPerformanceMode=$(</mnt/volatile/fixed_performance)";;
meminfo)
    [ -r "/proc/$2/status" ] || { echo "No process found for: $2"; exit 0; }
    rss=$(grep VmRSS "/proc/$2/status" | tr -dc 0-9)
    echo "** MEMINFO in pid $2 **"
    echo "           TOTAL PSS:   $rss            TOTAL RSS:   $rss       TOTAL SWAP PSS:        0";;
*) echo "Can't find service: $1" >&2;;
esac
