package main

import (
	"github.com/spf13/cobra"

	"coffer/internal/cli"
)

func main() { cli.Main(command()) }

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:     "coffer",
		Short:   "Ask for payments, approve them, and see what became of them",
		Version: cli.Version(),
	}
	o.flags(root)
	root.AddCommand(
		payCommand(o), pendingCommand(o), showCommand(o), historyCommand(o),
		approveCommand(o), rejectCommand(o), withdrawCommand(o), vetoCommand(o), cancelCommand(o),
		freezeCommand(o), unfreezeCommand(o), listCommand(o),
		loginCommand(o), logoutCommand(o), statusCommand(o), walletCommand(o), charterCommand(o), joinCommand(o), enrolCommand(o),
	)
	return root
}
