package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

func printJSON(w io.Writer, results []result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(results)
}

// printTable writes a table in Markdown for each scenario. Ratios are to the
// best peer, of wall time and processor time each for itself.
func printTable(w io.Writer, results []result) error {
	for len(results) > 0 {
		n := slices.IndexFunc(results, func(r result) bool { return r.Scenario != results[0].Scenario })
		if n < 0 {
			n = len(results)
		}
		if _, err := io.WriteString(w, tableOf(results[:n])); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

func tableOf(results []result) string {
	var text strings.Builder
	fmt.Fprintf(&text, "**%s: %s** (%d tags)\n\n", results[0].Scenario, results[0].About, results[0].Tags)
	text.WriteString("| | wall s | of the best peer | CPU s | of the best peer | peak MiB | requests | MB fetched | upstream CPU s | wrong tags |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	wall := best(results, func(r result) float64 { return r.Wall })
	cpu := best(results, func(r result) float64 { return r.CPU })
	for _, r := range results {
		fmt.Fprintf(&text, "| %s | %.2f | %s | %.2f | %s | %d | %d | %.1f | %.2f | %d |\n", r.Contender,
			r.Wall, ratio(r.Wall, wall), r.CPU, ratio(r.CPU, cpu), r.Memory>>20, r.Requests, float64(r.Bytes)/1e6, r.Upstream, len(r.Wrong))
	}
	text.WriteString("\n")
	for _, r := range results {
		fmt.Fprintf(&text, "%s asked: %s\n", r.Contender, kinds(r.Kinds))
		if len(r.Wrong) > 0 {
			fmt.Fprintf(&text, "%s did not keep the digest of: %s\n", r.Contender, strings.Join(r.Wrong[:min(5, len(r.Wrong))], ", "))
		}
	}
	text.WriteString("\n")
	return text.String()
}

// best is the least of any peer; 0 without one.
func best(results []result, of func(result) float64) float64 {
	var least float64
	for _, r := range results {
		if v := of(r); r.Contender != "lastro" && (least == 0 || v < least) {
			least = v
		}
	}
	return least
}

func ratio(v, to float64) string {
	if to == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f ×", v/to)
}

func kinds(counts map[string]int) string {
	var parts []string
	for kind, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
