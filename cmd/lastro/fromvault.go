package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lastro/mirror"
	"lastro/mirror/demand"
	"lastro/store/serve"
	"lastro/store/serve/spec"
	"lastro/store/vault"
	"lastro/store/vault/pull"
)

// fromVault is what a person said of serving from a vault.
type fromVault struct {
	name, snapshot, asOf string
	rehydrate            bool
}

func (f *fromVault) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "from-vault", "", "answer pulls out of this `vault` of the configuration, read-only")
	flags.StringVar(&f.snapshot, "snapshot", "", "with --from-vault: the snapshot's `id` (default: the newest)")
	flags.StringVar(&f.asOf, "as-of", "", "with --from-vault: the newest snapshot that is not younger than this `time`")
	flags.BoolVar(&f.rehydrate, "rehydrate", false, "with --from-vault: restore the snapshot behind the pulls, then go on as the daemon")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "as-of")
}

func (f *fromVault) check() error {
	if f.name == "" && (f.snapshot != "" || f.asOf != "" || f.rehydrate) {
		return usageError{errors.New("serve: --snapshot, --as-of and --rehydrate say something of --from-vault NAME: name the vault")}
	}
	return nil
}

// vaultServed is a vault that is served from.
type vaultServed struct {
	vault     *vault.Vault
	snapshot  *pull.Snapshot
	rehydrate bool
	progress  rehydration
}

// openVaultServed finds the snapshot; nil when the daemon has nothing to do with one.
func (c *cli) openVaultServed(ctx context.Context, s *site, f fromVault) (*vaultServed, error) {
	if f.name == "" {
		return nil, nil
	}
	o := pull.Options{Snapshot: f.snapshot, Local: f.rehydrate}
	var err error
	if o.AsOf, err = c.timeFlag("--as-of", f.asOf, time.Time{}); err != nil {
		return nil, err
	}
	v, err := s.vault(ctx, f.name)
	if err != nil {
		return nil, err
	}
	last, err := s.rehydrated(ctx, f)
	if err != nil {
		return nil, err
	}
	if last.Done {
		s.log.Info("rehydrated already: it serves what is here; name another --snapshot to rehydrate from that", "vault", f.name, "snapshot", last.Snapshot)
		return nil, nil
	}
	snapshot, err := openSnapshot(ctx, v, s, o, last)
	if err != nil {
		return nil, err
	}
	return &vaultServed{vault: v, snapshot: snapshot, rehydrate: f.rehydrate, progress: rehydration{images: snapshot.Record.Images}}, nil
}

// openSnapshot goes on with the snapshot of the last time, if that is there still.
func openSnapshot(ctx context.Context, v *vault.Vault, s *site, o pull.Options, last rehydrateResult) (*pull.Snapshot, error) {
	if last.Snapshot == "" || o.Snapshot != "" || !o.AsOf.IsZero() {
		return pull.Open(ctx, v.Catalog, s.store, o)
	}
	again := o
	again.Snapshot = last.Snapshot
	snapshot, err := pull.Open(ctx, v.Catalog, s.store, again)
	if errors.Is(err, fs.ErrNotExist) {
		return pull.Open(ctx, v.Catalog, s.store, o)
	}
	return snapshot, err
}

// elsewhere is where the registry has from what is not here: a vault, until that is
// no longer needed, and then the upstreams.
type elsewhere struct {
	vault  atomic.Pointer[vaultServed] // nil: none
	demand *demand.Demand
}

// Manifest asks the vault or the upstreams.
func (e *elsewhere) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	if v := e.vault.Load(); v != nil {
		return v.snapshot.Manifest(ctx, repo, ref)
	}
	return e.demand.Manifest(ctx, repo, ref)
}

// Blob asks the vault or the upstreams.
func (e *elsewhere) Blob(ctx context.Context, repo string, d digest.Digest) (mirror.Stream, error) {
	if v := e.vault.Load(); v != nil {
		return v.snapshot.Blob(ctx, repo, d)
	}
	return e.demand.Blob(ctx, repo, d)
}

// has reports whether the vault has a repository.
func (e *elsewhere) has(repo string) bool {
	v := e.vault.Load()
	return v != nil && v.snapshot.Has(repo)
}

// lists are those of the vault while there is one.
func (e *elsewhere) lists(here serve.Lists) serve.Lists { return elsewhereLists{e, here} }

type elsewhereLists struct {
	*elsewhere
	here serve.Lists
}

func (l elsewhereLists) now() serve.Lists {
	if v := l.vault.Load(); v != nil {
		return v.snapshot.Lists(l.here)
	}
	return l.here
}

func (l elsewhereLists) Repositories(ctx context.Context, last string, n int) ([]string, bool, error) {
	return l.now().Repositories(ctx, last, n)
}

func (l elsewhereLists) Tags(ctx context.Context, repo, last string, n int) ([]string, bool, error) {
	return l.now().Tags(ctx, repo, last, n)
}

func (l elsewhereLists) Referrers(ctx context.Context, repo string, d digest.Digest) ([]ocispec.Descriptor, error) {
	return l.now().Referrers(ctx, repo, d)
}

// parts lets a request for a part of a blob wait until all of it was found right.
// Who asks for its end waits for that anyhow.
func (e *elsewhere) parts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if part := r.Header.Get("Range"); e.vault.Load() != nil && part != "" && (!strings.HasSuffix(part, "-") || strings.Contains(part, ",")) {
			r = r.WithContext(pull.Verified(r.Context()))
		}
		h.ServeHTTP(w, r)
	})
}

// readOnly refuses pushes while there is a vault.
func (e *elsewhere) readOnly(pushes http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := e.vault.Load()
		if v == nil {
			pushes.ServeHTTP(w, r)
			return
		}
		refusal := spec.ReadOnly()
		refusal.Message = fmt.Sprintf("this registry answers out of vault %s, and takes no pushes and no deletes until it serves its own images again", v.vault.Name)
		refusal.Write(w)
	})
}

// servedStatus says which snapshot answers pulls, and how far it is restored.
type servedStatus struct {
	Vault     string    `json:"vault"`
	Snapshot  string    `json:"snapshot"`
	Time      time.Time `json:"time"` // of the snapshot
	Rehydrate bool      `json:"rehydrate"`
	Images    int       `json:"images"`   // of the snapshot
	Restored  int       `json:"restored"` // of them, by --rehydrate
}

func (e *elsewhere) status() *servedStatus {
	v := e.vault.Load()
	if v == nil {
		return nil
	}
	record := v.snapshot.Record
	return &servedStatus{v.vault.Name, record.ID, record.Created.UTC(), v.rehydrate, record.Images, int(v.progress.done.Load())}
}

func (st servedStatus) String() string {
	text := fmt.Sprintf("pulls out of vault %s, snapshot %s of %s, read-only", st.Vault, st.Snapshot, stamp(st.Time))
	if st.Rehydrate {
		text += fmt.Sprintf("; %d of %d images are restored", st.Restored, st.Images)
	}
	return text
}

// whileReading are the verbs that change nothing that a vault being served needs.
var whileReading = map[string]bool{
	"status": true, "list": true, "show": true, "history": true, "resolve": true, "version": true, "client-config": true, "completion": true,
	"config check": true, "config show": true, "config schema": true, "backup list": true, "backup show": true, "backup verify": true,
	"protect list": true, "ledger check": true, "ledger copy": true, "ledger export": true,
}

// refuseWhileReading refuses verbs that would change what is here.
func (c *cli) refuseWhileReading(cmd *cobra.Command) error {
	if c.site == nil || c.site.elsewhere.vault.Load() == nil {
		return nil
	}
	_, verb, _ := strings.Cut(cmd.CommandPath(), " ")
	v := c.site.elsewhere.vault.Load()
	switch {
	case v == nil || whileReading[verb]:
		return nil
	case v.rehydrate:
		return fmt.Errorf("%s: the daemon rehydrates from vault %s, and changes nothing else until that is done: see `lastro status`", verb, v.vault.Name)
	}
	return fmt.Errorf("%s: the daemon serves from vault %s and changes nothing: start it without --from-vault, or with --rehydrate", verb, v.vault.Name)
}
