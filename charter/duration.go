package charter

import (
	"fmt"
	"strconv"
	"time"
)

// MaxDelay bounds what a charter may make anybody wait for.
const MaxDelay = 30 * 24 * time.Hour

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}

// ParseDuration reads a time such as 90s, 45m, 24h or 7d: one whole number and one
// unit, so that people read one number and not a sum. Empty is 0, and the only 0.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	const want = "write a whole number and one of s, m, h, d, such as 24h"
	number, unit := text[:len(text)-1], units[text[len(text)-1]]
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || unit == 0 || strconv.FormatUint(n, 10) != number {
		return 0, fmt.Errorf("%+q: %s", clip(text), want)
	}
	if n == 0 {
		return 0, fmt.Errorf("%+q: leave the field out for no time", text)
	}
	if time.Duration(n) > MaxDelay/unit {
		return 0, fmt.Errorf("%+q is more than 30d", text)
	}
	return time.Duration(n) * unit, nil
}
