package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

// floor puts every blob of a data folder, and floorBack gets every one of them into
// another: the least that any backup, and any restore, does.
func floor(ctx context.Context, data, to string) error {
	return each(data, func(path, _ string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h := sha256.New()
		resp, err := send(ctx, http.MethodPut, to, path, io.NopCloser(io.TeeReader(f, h)), info.Size())
		if err == nil {
			err = errors.Join(resp.Body.Close(), named(path, h))
		}
		return err
	})
}

// floorBack hashes, writes and syncs what it gets.
func floorBack(ctx context.Context, data, from, back string) error {
	return each(data, func(path, below string) error {
		resp, err := send(ctx, http.MethodGet, from, path, nil, 0)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		to := filepath.Join(registryOf(back), below)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.CopyBuffer(io.MultiWriter(h, f), resp.Body, make([]byte, 256<<10))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		return named(path, h)
	})
}

// each calls do for every blob of a data folder, eight at once, with its path and that
// below the registry.
func each(data string, do func(path, below string) error) error {
	var g errgroup.Group
	g.SetLimit(8)
	root := registryOf(data)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "data" && !e.IsDir() {
			g.Go(func() error { return do(path, strings.TrimPrefix(path, root)) })
		}
		return err
	})
	return errors.Join(err, g.Wait())
}

func named(path string, h hash.Hash) error {
	if name := filepath.Base(filepath.Dir(path)); hex.EncodeToString(h.Sum(nil)) != name {
		return fmt.Errorf("%s has other bytes", name)
	}
	return nil
}

func send(ctx context.Context, method, to, path string, body io.Reader, size int64) (*http.Response, error) {
	name := filepath.Base(filepath.Dir(path))
	req, err := http.NewRequestWithContext(ctx, method, to+"/"+name, body)
	if err != nil {
		return nil, err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req.ContentLength = size
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	keys := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("%s %s: %s", method, name, resp.Status), resp.Body.Close())
	}
	return resp, err
}
