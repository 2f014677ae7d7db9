package push

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/metrics"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	gometrics "github.com/docker/go-metrics"

	"lastro/store/layout"
)

// Metrics is distribution's own namespace of metrics, for whoever exposes them.
func Metrics() *gometrics.Namespace { return metrics.StorageNamespace }

// register makes the driver known to distribution, once.
var register = sync.OnceFunc(func() { factory.Register(layout.DriverName, injected{}) })

// injected hands distribution the driver that is among the parameters.
type injected struct{}

func (injected) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	d, ok := parameters["driver"].(storagedriver.StorageDriver)
	if !ok {
		return nil, errors.New("no driver was given")
	}
	return d, nil
}

// start starts distribution. Its constructor panics on what it does not like.
func (h *handler) start(key string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("distribution: %v", p)
		}
	}()
	register()
	bridgeLogs(h.log)
	h.app = handlers.NewApp(context.Background(), settings(h.store.Driver(), key))
	return nil
}

func settings(driver storagedriver.StorageDriver, key string) *configuration.Configuration {
	c := &configuration.Configuration{Storage: configuration.Storage{
		layout.DriverName: {"driver": driver},
		"delete":          {"enabled": true},
		"redirect":        {"disable": true},
		"maintenance":     {"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.HTTP.Secret = key // signs the state of uploads
	c.HTTP.RelativeURLs = true
	return c
}
