package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lastro/mirror/upstream/catalog"
	"lastro/mirror/upstream/limit"
)

// RepositoriesIn lists the repositories below a namespace, the first part of
// their names, each once; "" means all. Docker Hub and GHCR are asked by the API
// that Settings.Catalog names, in which no budget of pulls counts; all others by
// their _catalog. A host that lists nothing is errors.ErrUnsupported, a
// namespace that is not there may be fs.ErrNotExist.
func (r *Registry) RepositoriesIn(ctx context.Context, namespace string) iter.Seq2[string, error] {
	if r.catalog != nil {
		return r.fromAPI(ctx, namespace)
	}
	return func(yield func(string, error) bool) {
		for name, err := range r.Repositories(ctx) {
			if err != nil {
				err = r.withoutCatalog(err)
			} else if namespace != "" && !strings.HasPrefix(name, namespace+"/") {
				continue
			}
			if !yield(name, err) {
				return
			}
		}
	}
}

// withoutCatalog says which list there would be.
func (r *Registry) withoutCatalog(err error) error {
	address, ok := catalog.Address(r.host)
	if !ok || !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return fmt.Errorf("%w; repositories are listed at %s, which is not asked: set upstreams.%s.catalog", err, address, r.host)
}

const noCatalog = "none"

// catalogOf is where the list of a host's repositories is; nil: only at _catalog.
// Whoever reads a host at another address does not speak with the host itself
// unless told to.
func (s Settings) catalogOf(host string) (*url.URL, error) {
	own, ok := catalog.Address(host)
	switch {
	case s.Catalog == noCatalog, s.Catalog == "" && (!ok || s.elsewhere(host)):
		return nil, nil
	case !ok:
		return nil, errors.New("catalog: only docker.io and ghcr.io list their repositories outside the registry: remove it")
	case s.Catalog == "":
		return url.Parse(own)
	}
	return url.Parse(s.Catalog)
}

// elsewhere reports whether the endpoint is another one than the host's own.
func (s Settings) elsewhere(host string) bool {
	here, err := s.address(host)
	own, _ := Settings{}.address(host)
	return err != nil || own == nil || here.Host != own.Host
}

func (s Settings) checkCatalog() error {
	switch {
	case s.Catalog == "" || s.Catalog == noCatalog:
		return nil
	case strings.HasPrefix(s.Catalog, "http:") && !s.PlainHTTP:
		return errors.New("credentials do not go over plain HTTP: use https, or plain-http: true")
	}
	if u, err := url.Parse(s.Catalog); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New(`neither "none" nor the address of an API (example: "https://hub.docker.com")`)
	}
	return nil
}

// fromAPI lists a namespace by the API beside the registry. What that allows is
// not what the registry allows.
func (r *Registry) fromAPI(ctx context.Context, namespace string) iter.Seq2[string, error] {
	aside := &account{limit: limit.NewAccount(0)}
	var shown []*account
	return catalog.Catalog{
		Host: r.host, Address: r.catalog, Log: r.log,
		Do: func(req *http.Request) (*http.Response, error) { return r.aside(aside, req) },
		Login: func(ctx context.Context) (username, password string, err error) {
			shown = r.shown()
			return firstLogin(ctx, shown)
		},
		Renew: func(ctx context.Context) bool { return r.renewed(ctx, shown) },
	}.Repositories(ctx, namespace)
}

// shown are the accounts that the API beside the registry may see. Those for an
// endpoint elsewhere are not for the API of the host.
func (r *Registry) shown() []*account {
	if r.elsewhere && r.catalog.Host != r.endpoint.Host {
		return nil
	}
	return r.accounts.all("")
}

// firstLogin is the first of the credentials with a password. Those that cannot
// be found leave the list to the others.
func firstLogin(ctx context.Context, all []*account) (username, password string, err error) {
	var missing error
	for _, a := range all {
		found, err := a.found(ctx)
		if found.Password != "" && err == nil {
			return found.Username, found.Password, nil
		}
		missing = cmp.Or(missing, err)
	}
	return "", "", missing
}

// aside sends a request to an API beside the registry, again when its faults may
// pass. Limits are the caller's matter.
func (r *Registry) aside(a *account, req *http.Request) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		resp, err := r.asideOnce(a, req)
		if attempt == maxAttempts || err != nil && !transient(err) || err == nil && !mayPass(resp) {
			return resp, err
		}
		if err == nil {
			drain(resp)
			err = &statusError{status: resp.StatusCode, host: req.URL.Host}
		}
		wait := backoff(attempt)
		r.log.Info("upstream request is tried again", "upstream", r.host, "request", req.Method+" list of repositories", "attempt", attempt, "in", wait, "err", err)
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// mayPass reports an answer that is a fault of a moment, and no limit.
func mayPass(resp *http.Response) bool {
	s := &statusError{status: resp.StatusCode, retryAfter: limit.RetryAfter(resp.Header, time.Now())}
	return transient(s) && !s.throttles()
}

func (r *Registry) asideOnce(a *account, req *http.Request) (*http.Response, error) {
	header := req.Header.Clone()
	header.Del("Authorization")
	sent := request{method: req.Method, url: req.URL, header: header, authorization: req.Header.Get("Authorization"), account: a}
	if req.Body != nil && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		sent.form = string(raw)
	}
	return r.follow(req.Context(), sent)
}
