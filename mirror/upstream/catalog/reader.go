package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"lastro/mirror"
)

// reader reads the pages of one list.
type reader struct {
	Catalog
	api
	header http.Header
}

const maxPage = 8 << 20

// login learns what requests carry, with other credentials if some are refused.
func (r *reader) login(ctx context.Context) (err error) {
	r.header, err = r.authorize(ctx, r.Catalog)
	if notLetIn(err) && r.renewed(ctx) {
		r.header, err = r.authorize(ctx, r.Catalog)
	}
	return err
}

// renewed reports whether there are other credentials, once.
func (r *reader) renewed(ctx context.Context) bool {
	renew := r.Renew
	r.Renew = nil
	return renew != nil && renew(ctx)
}

// page reads one page, with other credentials if those it had are refused.
func (r *reader) page(ctx context.Context, at *url.URL) (page, error) {
	p, err := r.ask(ctx, at)
	if !notLetIn(err) || !r.renewed(ctx) {
		return p, err
	}
	if err := r.login(ctx); err != nil {
		return page{}, err
	}
	return r.ask(ctx, at)
}

func (r *reader) ask(ctx context.Context, at *url.URL) (page, error) {
	resp, raw, err := send(ctx, r.Catalog, http.MethodGet, at, r.header, nil)
	if err != nil {
		return page{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return page{}, r.refusal(resp, raw)
	}
	p, err := r.read(resp, raw)
	if err != nil {
		return page{}, fmt.Errorf("%s sent what is not a list of repositories", at.Host)
	}
	return p, nil
}

// next is where the page after one is: on the same host, and without leaving TLS.
func (r *reader) next(at *url.URL, link string) (*url.URL, error) {
	next, err := at.Parse(link)
	switch {
	case err != nil || next.User != nil:
		return nil, errors.New("the link to the next page cannot be read")
	case next.Host != at.Host:
		return nil, fmt.Errorf("the next page would be on another host, %s", plain(next.Host))
	}
	next.Scheme = at.Scheme
	return next, nil
}

// send sends one request and reads its answer. Its errors leave out what was sent.
func send(ctx context.Context, c Catalog, method string, at *url.URL, header http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, errors.New("the address of the list cannot be used")
	}
	req.Header = header.Clone()
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("the answer broke off after %d bytes: %w", len(raw), err)
	case len(raw) > maxPage:
		return nil, nil, fmt.Errorf("the answer has more than the %d MiB that it may have", maxPage>>20)
	}
	return resp, raw, nil
}

// said is what a server says in an answer that was not asked for, without what
// it was sent.
func said(raw []byte, secrets ...string) string {
	var doc struct{ Message, Detail string }
	if json.Unmarshal(raw, &doc) != nil {
		return ""
	}
	text := doc.Message
	if text == "" {
		text = doc.Detail
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return plain(text)
}

const maxDetail = 200

// plain makes one short line of what a server sent.
func plain(text string) string { return mirror.Line(text, maxDetail) }
