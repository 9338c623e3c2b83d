package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/doctor"
	pb "coffer/proto/coffer/v1"
)

// Away says whether an error means that nobody answers at a socket.
func Away(err error) bool {
	return status.Code(err) == codes.Unavailable || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// Findings prints what a doctor found, and fails when something does not work.
func (d *Daemon) Findings(cmd *cobra.Command, findings []*pb.Finding) error {
	type finding struct {
		Level   string `json:"level"`
		Subject string `json:"subject"`
		Text    string `json:"text"`
		Remedy  string `json:"remedy,omitempty"`
	}
	r, list := doctor.Report{Findings: findings}, []finding{}
	bad := 0
	for _, f := range findings {
		list = append(list, finding{doctor.Level(f.Level), Clean(f.Subject), Clean(f.Text), Clean(f.Remedy)})
		if f.Level == pb.Level_LEVEL_FAIL {
			bad++
		}
	}
	if d.JSON {
		if err := JSON(cmd, map[string]any{"well": !r.Failed(), "findings": list}); err != nil {
			return err
		}
	} else if err := doctor.Print(cmd.OutOrStdout(), findings, Clean); err != nil {
		return err
	}
	switch bad {
	case 0:
		return nil
	case 1:
		return errors.New("one thing does not work")
	}
	return fmt.Errorf("%d things do not work", bad)
}
