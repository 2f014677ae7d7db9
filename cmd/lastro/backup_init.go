package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/probe"
)

func (c *cli) backupInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [NAME]",
		Short: "make a vault, and find out what its bucket really does",
		Long: `Init makes the vault if there is none, and tries what its place does, whatever it
says: writers race for the same names, wrong bytes are sent, what was written is
read and listed at once. What it finds is recorded in the vault, and how the vault
is used follows from it: strict (several daemons may back up beside each other) or
single writer. The first backup does this too, and once a month another; do it
again after the server was changed. What was tried is removed. Whether the vault is
encrypted is decided here: backup[].encrypt is set before, or never. Only an empty place becomes a vault; wrong
credentials, clocks that differ, or another's files change nothing.`,
		Example: "  lastro backup init\n  lastro backup init main",
		Args:    takes(cobra.MaximumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			v, err := s.oneVault(ctx, args)
			if err != nil {
				return err
			}
			p, err := v.Init(ctx)
			if err != nil {
				return fmt.Errorf("init vault %s: %w", v.Name, err)
			}
			return c.print(shownInit(v.Name, v.Bucket.String(), p))
		}),
	}
}

// shownProbe is what was found out about a vault's place.
type shownProbe struct {
	Vault  string        `json:"vault"`
	To     string        `json:"to"`
	ID     string        `json:"id"`
	Made   bool          `json:"made"`
	Sealed bool          `json:"encrypted"`
	Mode   layout.Mode   `json:"mode"`
	Proven layout.Proven `json:"proven"`
	Tried  []probe.Tried `json:"tried"`
	Left   int           `json:"left"` // objects of the probe that could not be removed
	why    error         // they could not
}

func shownInit(name, to string, p catalog.Probed) shownProbe {
	return shownProbe{name, to, p.Config.ID, p.Made, p.Config.Encrypted != nil, p.Config.Mode(), p.Config.Proven, p.Tried, p.Left, p.Why}
}

// Print is a table of what was tried, and what follows.
func (p shownProbe) Print(w io.Writer) error {
	was := "was there"
	if p.Made {
		was = "made"
	}
	if p.Sealed {
		was += ", encrypted"
	}
	fmt.Fprintf(w, "vault %s at %s: %s, id %s\n", p.Vault, p.To, was, p.ID)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "TRIED\tHOLDS\tSEEN\n")
	for _, tried := range p.Tried {
		holds := "no"
		if tried.Holds {
			holds = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", tried.Name, holds, tried.Seen)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p.Left > 0 {
		fmt.Fprintf(w, "%d objects of this try stay under %s until they can be removed: %v\n", p.Left, layout.DirProbe, p.why)
	}
	_, err := fmt.Fprintf(w, "mode: %s, recorded %s: %s\n", p.Mode, p.Proven.When.Format(time.RFC3339), meansMode(p.Mode))
	return err
}

func meansMode(m layout.Mode) string {
	if m == layout.Strict {
		return "several daemons may back up to it"
	}
	return "let only one daemon back up to it: what one writes another may overwrite"
}
