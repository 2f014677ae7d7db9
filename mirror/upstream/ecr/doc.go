// Package ecr is a login for Amazon ECR from AWS credentials.
//
//	Host     is this a host of ECR, and of which account and region?
//	Logins   name and password for such a host, remembered and renewed
//
// The AWS credentials are those of the AWS SDK's chain: variables of the
// environment, profiles, web identity, the role of a container or a machine.
// They are looked up anew whenever a login is asked for, so that a change needs
// no restart. AWS is asked for hosts of ECR only, by default in the region that
// the host's name says; public.ecr.aws has its API in us-east-1.
//
// A login lives for twelve hours. It is renewed after four fifths of its life;
// when that fails, the old one is used as long as it lives. Those who need the
// same login wait for one request, each as long as its own context lets it. What
// AWS refuses is remembered for half a minute. The SDK alone sends requests
// again, throttled ones with its backoff.
//
// No error holds a password, a key or a token.
package ecr
