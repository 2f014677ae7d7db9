package push

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
)

// deleteManifest takes a tag away, or a manifest with all its tags.
func (x *exchange) deleteManifest() error {
	if !x.ByDigest() {
		return x.deleteTag()
	}
	d, err := x.digest(x.Ref)
	if err != nil {
		return err
	}
	keep := func(tag string) error { return x.keep(tag, d) }
	if err := x.store.Unpublish(x.r.Context(), x.Repo, d, x.removal(), keep); err != nil {
		return err
	}
	return x.accepted(d)
}

func (x *exchange) deleteTag() error {
	if err := layout.CheckTag(x.Ref); err != nil {
		return x.unknown()
	}
	keep := func(d digest.Digest) error { return x.keep(x.Ref, d) }
	d, err := x.store.UntagUnless(x.r.Context(), x.Repo, x.Ref, x.removal(), keep)
	if err != nil {
		return err
	}
	return x.accepted(d)
}

func (x *exchange) deleteBlob() error {
	d, err := x.digest(x.Ref)
	if err != nil {
		return err
	}
	if err := x.store.Unlink(x.r.Context(), x.Repo, d); err != nil {
		return err
	}
	return x.accepted(d)
}

// keep refuses to delete what must stay.
func (x *exchange) keep(tag string, d digest.Digest) error {
	reason, err := x.o.Keep(x.r.Context(), x.Repo, tag, d)
	if err != nil || reason == "" {
		return err
	}
	return denied(http.StatusConflict, reason)
}

func (x *exchange) removal() ledger.Event {
	return ledger.Event{By: x.by(), Reason: "deleted by a client"}
}

func (x *exchange) accepted(d digest.Digest) error {
	x.log.Info("deleted", "repo", x.Repo, "reference", x.Ref, "digest", d)
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusAccepted)
	return nil
}
