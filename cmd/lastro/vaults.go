package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"lastro/cmd/lastro/internal/web"
	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/catalog"
)

// backups are the reports of one backup verb. In JSON the report of the only vault
// stands alone.
type backups struct {
	Reports []vault.Report  `json:"backups"`
	Failed  []backupFailure `json:"failed,omitempty"`
}

// backupFailure is a vault that nothing was saved to.
type backupFailure struct {
	Vault string `json:"vault"`
	Error string `json:"error"`
}

func (b backups) failed() int {
	n := 0
	for _, r := range b.Reports {
		n += len(r.Failed)
	}
	return n
}

// MarshalJSON writes one report as itself.
func (b backups) MarshalJSON() ([]byte, error) {
	if len(b.Reports) == 1 && len(b.Failed) == 0 {
		return json.Marshal(b.Reports[0])
	}
	type plain backups // without this method
	return json.Marshal(plain(b))
}

// Print says what was saved, one line a vault.
func (b backups) Print(w io.Writer) error {
	for _, r := range b.Reports {
		printFailures(w, r.Failed)
		_, err := fmt.Fprintf(w, "vault %s: snapshot %s: %d images, %d blobs, %s; new: %d blobs, %s; %d requests, %.1f s\n",
			r.Vault, r.Snapshot, r.Images, r.Blobs, size(r.Bytes), r.NewBlobs, size(r.NewBytes), r.Requests, r.TookSeconds)
		if err != nil {
			return err
		}
		printLocks(w, r)
	}
	return nil
}

func printLocks(w io.Writer, r vault.Report) {
	if r.Extended > 0 {
		fmt.Fprintf(w, "vault %s: locks of %d objects extended\n", r.Vault, r.Extended)
	}
	if !r.LockedUntil.IsZero() {
		fmt.Fprintf(w, "vault %s: all that snapshots need is locked until %s at least\n", r.Vault, stamp(r.LockedUntil))
	}
}

// shownVault is the list of a vault's snapshots.
type shownVault vault.Listing

// Print says what the vault is, and lists the oldest snapshot first.
func (l shownVault) Print(w io.Writer) error {
	is := "not encrypted"
	if l.Encrypted {
		is = "encrypted"
	}
	fmt.Fprintf(w, "vault %s at %s: %s; %s: %s\n", l.Vault, l.To, is, l.Mode, meansMode(l.Mode))
	if !l.Locked.IsZero() {
		fmt.Fprintf(w, "all that snapshots need is locked until %s at least\n", stamp(l.Locked))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "SNAPSHOT\tTIME\tIMAGES\tBLOBS\tSIZE\tSIGNED\tVERIFIED\n")
	for _, s := range l.Snapshots {
		verified := time.Time{}
		if s.Verified != nil {
			verified = *s.Verified
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%t\t%s\n", s.ID, stamp(s.Time), s.Images, s.Blobs, size(s.Bytes), s.Signed, stamp(verified))
	}
	return t.Flush()
}

// shownSnapshot is one snapshot and what is in it.
type shownSnapshot vault.Contents

// Print lists the images by repository.
func (s shownSnapshot) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "snapshot\t%s\ntime\t%s\nimages\t%d\nblobs\t%d, %s\nroot\t%s\n", s.ID, stamp(s.Created), s.Images, s.Blobs, size(s.Bytes), s.Root.Digest)
	for _, r := range s.Repositories {
		fmt.Fprintf(t, "%s\t%s\n", r.Name, r.Index.Digest)
		for _, img := range r.Images {
			name := img.Tag
			if name == "" {
				name = "-"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", name, img.Digest, img.MediaType)
		}
	}
	return t.Flush()
}

// shownVerification is what a verification found.
type shownVerification vault.Verified

// Print lists the problems first.
func (v shownVerification) Print(w io.Writer) error {
	printProblems(w, v.Problems)
	_, err := fmt.Fprintf(w, "vault %s: snapshot %s: %d blobs, %s %s in %.1f s: %s\n",
		v.Vault, v.Snapshot, v.Blobs, size(v.Bytes), covered(v.Level, v.Coverage), v.TookSeconds, found(vault.Verified(v).Left(), len(v.Problems)))
	if err != nil {
		return err
	}
	return printOldest(w, v.OldestRead)
}

// covered says how far all was proven right.
func covered(l vault.VerifyLevel, c vault.Coverage) string {
	if l == vault.VerifyFull {
		return "read and hashed"
	}
	return fmt.Sprintf("looked at: %s read and hashed, %s by the server's own SHA-256, %s by name and length alone,", amount(c.Read), amount(c.ByHash), amount(c.ByLength))
}

func amount(a vault.Amount) string {
	if a.Blobs == 0 {
		return "none"
	}
	return fmt.Sprintf("%d (%s)", a.Blobs, size(a.Bytes))
}

func printOldest(w io.Writer, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	_, err := fmt.Fprintf(w, "what is longest unread in the vault was read, or sent there, %s (%s)\n", stamp(t), humanize.Time(t))
	return err
}

func printProblems(w io.Writer, problems []vault.Problem) {
	for _, p := range problems {
		if p.Repaired {
			fmt.Fprintf(w, "repaired: %s: was %s: %s\n  from %s\n", p.Digest, p.Kind, p.Error, p.Source)
			continue
		}
		fmt.Fprintf(w, "problem: %s: %s: %s\n", p.Digest, p.Kind, p.Error)
		for _, img := range p.Images {
			fmt.Fprintf(w, "  hurts %s\n", img)
		}
		if p.Unrepaired != "" {
			fmt.Fprintf(w, "  not repaired: %s\n", p.Unrepaired)
		}
		if p.Next != "" {
			fmt.Fprintf(w, "  next: %s\n", p.Next)
		}
	}
}

// counts tells what is left of all problems.
func counts(a vault.VerifiedAll) (left, all int) {
	left = a.Left()
	all = left
	for _, n := range a.Repaired() {
		all += n
	}
	return left, all
}

// found counts problems, and says how many of all are none any more.
func found(left, all int) string {
	if left == all {
		return fmt.Sprintf("%d problems", left)
	}
	return fmt.Sprintf("%d problems, %d repaired", left, all-left)
}

// verifyAll verifies several snapshots, or a part, as one run of the vault's
// verification.
func (s *site) verifyAll(ctx context.Context, v *vault.Vault, o vault.VerifyOptions, p mirror.Progress) (all vault.VerifiedAll, err error) {
	if err := named(ctx, v, o.Snapshot); err != nil {
		return all, fmt.Errorf("verify vault %s: %w", v.Name, err)
	}
	look := func() (vault.VerifiedAll, error) { return v.VerifyAll(ctx, o, p) }
	if err := s.reads(v); err != nil {
		if !o.List || o.Repair != nil || o.Snapshot != "" {
			return all, err
		}
		look = func() (vault.VerifiedAll, error) { return v.VerifyKnown(ctx, s.store) }
	}
	err = s.record(ctx, jobVerify+v.Name, func() (runResult, error) {
		all, err = look()
		if err != nil {
			return runResult{}, err
		}
		known := readBack{all.OldestRead, all.Left()}
		shown := known.web(v.Name)
		shown.Repaired = all.Repaired()
		s.witness.ReadBack(shown)
		result := runResult{record: known, failed: known.Problems}
		if known.Problems > 0 {
			return result, problemsError(known.Problems)
		}
		return result, nil
	})
	if _, ok := errors.AsType[problemsError](err); ok {
		err = nil // they are the result, and printed as such
	}
	return all, err
}

// named refuses a snapshot that there is not, before it is a fault of the vault.
func named(ctx context.Context, v *vault.Vault, snapshot string) error {
	if snapshot == "" {
		return nil
	}
	h, err := v.Heads(ctx)
	if err == nil {
		_, err = h.Pick(snapshot, time.Time{})
	}
	return err
}

// readBack is what the ledger keeps of a verification of a vault.
type readBack struct {
	Oldest   time.Time `json:"oldest_read"` // when what is longest unread was read, or sent there
	Problems int       `json:"problems"`
}

// readBackOf is what a job's record says. What does not read is forgotten.
func readBackOf(job ledger.Job) (r readBack) {
	if json.Unmarshal(job.Result, &r) != nil {
		return readBack{}
	}
	return r
}

func (r readBack) web(name string) web.ReadBack {
	return web.ReadBack{Name: name, Oldest: r.Oldest, Problems: r.Problems}
}

// shownVerifications is what a verification found in all snapshots.
type shownVerifications vault.VerifiedAll

// Print lists the snapshots, the oldest first.
func (a shownVerifications) Print(w io.Writer) error {
	for _, v := range a.Snapshots {
		printProblems(w, v.Problems)
		fmt.Fprintf(w, "snapshot %s: %d blobs, %s: %s\n", v.Snapshot, v.Blobs, size(v.Bytes), found(v.Left(), len(v.Problems)))
	}
	part := ""
	if a.Parts > 0 {
		part = fmt.Sprintf(", part %d/%d", a.Part, a.Parts)
	}
	_, err := fmt.Fprintf(w, "vault %s: %d snapshots%s, %d blobs, %s %s in %.1f s: %s\n",
		a.Vault, len(a.Snapshots), part, a.Blobs, size(a.Bytes), covered(a.Level, a.Coverage), a.TookSeconds, found(counts(vault.VerifiedAll(a))))
	if err != nil {
		return err
	}
	return printOldest(w, a.OldestRead)
}

// shownRestore is what a restore did.
type shownRestore vault.Restored

// Print says what failed first.
func (r shownRestore) Print(w io.Writer) error {
	printFailures(w, r.Failed)
	to := ""
	if r.To != "" {
		to = " to " + r.To
	}
	_, err := fmt.Fprintf(w, "restored from snapshot %s%s: %d images; %d blobs, %s fetched in %.1f s\n", r.Snapshot, to, r.Images, r.Blobs, size(r.Bytes), r.TookSeconds)
	return err
}

// shownRestorePlan is what a restore would do.
type shownRestorePlan vault.RestorePlan

// Print lists the images.
func (p shownRestorePlan) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, img := range p.Images {
		was := ""
		if img.Previous != "" {
			was = "(now " + img.Previous.String() + ")"
		}
		fmt.Fprintf(t, "to restore\t%s\t%s\t%s\n", localRef{img.Repo, img.Tag, img.Digest}, img.Digest, was)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printFailures(w, p.Failed)
	_, err := fmt.Fprintf(w, "snapshot %s of %s: %d images to restore, %d as they were; %d blobs, %s to fetch: %d requests, about %s\n",
		p.Snapshot, stamp(p.Time), len(p.Images), p.Unchanged, p.Blobs, size(p.Bytes), p.Requests, about(p.Seconds))
	return err
}

// about is a time that is only a guess.
func about(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return (time.Duration(seconds) * time.Second).String()
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func printFailures(w io.Writer, failures []catalog.Failure) {
	for _, f := range failures {
		fmt.Fprintf(w, "failed  %s  %s", localRef{f.Repo, f.Tag, f.Digest}, f.Error)
		if f.Kept != "" {
			fmt.Fprintf(w, " (kept as it was: %s)", f.Kept)
		}
		fmt.Fprintln(w)
	}
}
