package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lastro/configs"
)

func (c *cli) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config check|show|schema",
		Short: "check, show or describe the configuration",
		Args:  takes(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.configCheckCommand(), c.configShowCommand(), c.configSchemaCommand())
	return cmd
}

func (c *cli) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "say everything that is wrong with the configuration file",
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.stdout, "%s: %d rules, %d retention rules, %d vaults: no faults\n", cfg.Path, len(cfg.Mirror), len(cfg.Retention), len(cfg.Backup))
			return nil
		},
	}
}

func (c *cli) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "the configuration with defaults filled in and secrets masked",
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			return cfg.Show(c.stdout)
		},
	}
}

func (c *cli) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "the JSON Schema of the configuration file, for editors",
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := c.stdout.Write(configs.Schema())
			return err
		},
	}
}

// load finds and reads the configuration file.
func (c *cli) load() (*configs.Config, error) {
	path, err := configs.Find(c.config, c.getenv("LASTRO_CONFIG"))
	if err != nil {
		return nil, usageError{err}
	}
	return configs.Load(path)
}
