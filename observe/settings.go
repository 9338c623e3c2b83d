package observe

import (
	"fmt"

	"coffer/hook"
)

// CheckSettings refuses what signers and coordinators have in common in their settings
// and could not work, naming the field. events are those that the daemon tells.
func CheckSettings(metrics, traces, format string, hooks []hook.Setting, events []string) error {
	if metrics != "" {
		if err := CheckListen(metrics); err != nil {
			return fmt.Errorf("metrics_listen: %w", err)
		}
	}
	if traces != "" {
		if err := CheckEndpoint(traces); err != nil {
			return fmt.Errorf("traces_endpoint: %w", err)
		}
	}
	if format != "" && format != "text" && format != "json" {
		return fmt.Errorf("log_format: %q is neither text nor json", format)
	}
	return hook.Check(hooks, events)
}
