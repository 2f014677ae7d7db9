package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "which lastro this is",
		Args:  takes(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return c.print(thisVersion()) },
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisVersion is what the Go toolchain recorded when it built the binary.
func thisVersion() versionInfo {
	v := versionInfo{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func (v versionInfo) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "lastro %s %s %s\n", v.Version, v.Go, v.Platform)
	return err
}
