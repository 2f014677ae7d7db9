// Package buckettest holds the test that every implementation of bucket.Bucket passes,
// and a server that lies.
package buckettest
