package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

// floor reads, hashes and puts every blob of a data folder: the least that any
// backup does.
func floor(ctx context.Context, data, to string) error {
	var g errgroup.Group
	g.SetLimit(8)
	err := filepath.WalkDir(registryOf(data), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "data" && !e.IsDir() {
			g.Go(func() error { return putOne(ctx, path, to+"/"+filepath.Base(filepath.Dir(path))) })
		}
		return err
	})
	if failed := g.Wait(); err == nil {
		err = failed
	}
	return err
}

func putOne(ctx context.Context, path, url string) error {
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, io.NopCloser(io.TeeReader(f, h)))
	if err != nil {
		return err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req.ContentLength = info.Size()
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	keys := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if name := filepath.Base(filepath.Dir(path)); resp.StatusCode != http.StatusOK || hex.EncodeToString(h.Sum(nil)) != name {
		return fmt.Errorf("%s: %s", name, resp.Status)
	}
	return nil
}
