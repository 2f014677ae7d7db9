package ecr

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// attempts is how often the SDK sends a request that AWS throttles.
const attempts = 5

// ask gets a login from AWS.
func (l *Logins) ask(ctx context.Context, k key) (credential, error) {
	cfg, err := l.config(ctx, k)
	if err != nil {
		return credential{}, k.notConfigured(err)
	}
	who, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return credential{}, k.noCredentials(err)
	}
	if k.Role != "" {
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), k.Role,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "lastro" }))
		assumed, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return credential{}, k.explain(err, who, "sts:AssumeRole on "+k.Role)
		}
		who = assumed
	}
	token, expires, err := k.token(ctx, cfg)
	if err != nil {
		return credential{}, k.explain(err, who, k.permission())
	}
	return parse(token, expires, time.Now())
}

// config is the AWS configuration of the environment for one registry.
func (l *Logins) config(ctx context.Context, k key) (aws.Config, error) {
	with := []func(*config.LoadOptions) error{
		config.WithRegion(cmp.Or(k.Settings.Region, k.Registry.Region)),
		config.WithRetryMaxAttempts(attempts),
		config.WithLogger(logging.Nop{}),
	}
	if k.Profile != "" {
		with = append(with, config.WithSharedConfigProfile(k.Profile))
	}
	if k.FIPS && k.Endpoint == "" {
		with = append(with, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if k.DualStack && k.Endpoint == "" {
		with = append(with, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	if l.Transport != nil {
		with = append(with, config.WithHTTPClient(&http.Client{Transport: l.Transport}))
	}
	return config.LoadDefaultConfig(ctx, with...)
}

// token is what the registry's API gives: base64 of a name and a password.
func (k key) token(ctx context.Context, cfg aws.Config) (token string, expires time.Time, err error) {
	if k.Public {
		return k.publicToken(ctx, cfg)
	}
	c := ecr.NewFromConfig(cfg, func(o *ecr.Options) {
		if k.Endpoint != "" {
			o.BaseEndpoint = aws.String(k.Endpoint)
		}
	})
	out, err := c.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil || len(out.AuthorizationData) == 0 {
		return "", time.Time{}, err
	}
	data := out.AuthorizationData[0]
	return aws.ToString(data.AuthorizationToken), aws.ToTime(data.ExpiresAt), nil
}

func (k key) publicToken(ctx context.Context, cfg aws.Config) (token string, expires time.Time, err error) {
	c := ecrpublic.NewFromConfig(cfg, func(o *ecrpublic.Options) {
		if k.Endpoint != "" {
			o.BaseEndpoint = aws.String(k.Endpoint)
		}
	})
	out, err := c.GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
	if err != nil || out.AuthorizationData == nil {
		return "", time.Time{}, err
	}
	return aws.ToString(out.AuthorizationData.AuthorizationToken), aws.ToTime(out.AuthorizationData.ExpiresAt), nil
}

// tokenLife is how long a token lives of which AWS does not say it.
const tokenLife = 12 * time.Hour

// parse reads a token. Its errors leave the token out.
func parse(token string, expires, now time.Time) (credential, error) {
	raw, err := base64.StdEncoding.DecodeString(token)
	username, password, ok := strings.Cut(string(raw), ":")
	switch {
	case err != nil || !ok || username == "" || password == "" || strings.ContainsFunc(string(raw), unicode.IsControl):
		return credential{}, errors.New("AWS sent no login that can be used")
	case expires.IsZero():
		expires = now.Add(tokenLife)
	case !expires.After(now):
		return credential{}, errors.New("AWS sent a login that has expired: set this machine's clock")
	}
	return credential{username, password, expires}, nil
}
