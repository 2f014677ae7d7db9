package push

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/sirupsen/logrus"
)

// bridgeLogs sends what distribution logs to log. distribution logs through
// logrus's one global logger, so the newest store's log is the one that counts.
func bridgeLogs(log *slog.Logger) {
	logs.mu.Lock()
	defer logs.mu.Unlock()
	logs.to = log
	logs.once.Do(func() {
		logrus.SetOutput(io.Discard)
		logrus.SetFormatter(silent{})
		logrus.SetLevel(logrus.InfoLevel)
		logrus.AddHook(logs)
	})
}

// bridge is a logrus hook. It is the one package variable: what it bridges is
// global too.
type bridge struct {
	once sync.Once
	mu   sync.Mutex
	to   *slog.Logger
}

var logs = &bridge{}

// Levels are all that are enabled.
func (b *bridge) Levels() []logrus.Level { return logrus.AllLevels }

// Fire passes an entry on. What distribution calls an error because a client
// asked for what is not there is only worth a debug line.
func (b *bridge) Fire(e *logrus.Entry) error {
	b.mu.Lock()
	to := b.to
	b.mu.Unlock()
	level, ctx := levelOf(e), e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	if !to.Enabled(ctx, level) {
		return nil
	}
	attrs := make([]any, 0, 2*len(e.Data))
	for key, value := range e.Data {
		attrs = append(attrs, key, value)
	}
	to.Log(ctx, level, "registry: "+e.Message, attrs...)
	return nil
}

func levelOf(e *logrus.Entry) slog.Level {
	switch {
	case e.Level >= logrus.InfoLevel:
		return slog.LevelDebug
	case e.Level == logrus.WarnLevel:
		return slog.LevelWarn
	}
	if status, ok := e.Data["http.response.status"].(int); ok && status < 500 {
		return slog.LevelDebug
	}
	return slog.LevelError
}

type silent struct{}

func (silent) Format(*logrus.Entry) ([]byte, error) { return nil, nil }
