package configs

import "lastro/store/serve/access"

// Registry is the OCI distribution API that clients pull from.
type Registry struct {
	Listen          string `yaml:"listen" kind:"address" default:"127.0.0.1:5000" example:"0.0.0.0:5000" doc:"Address that clients pull from."`
	Push            []Push `yaml:"push" doc:"Repositories that clients may push to and delete from (default: none, all are mirrors)." example:"local/**"`
	DefaultUpstream string `yaml:"default-upstream" kind:"host" default:"docker.io" example:"docker.io" doc:"Upstream of names without a host, as Docker asks for them from its registry-mirrors."`
	access.Settings
	Scanners []string `yaml:"scanners" kind:"pattern" default:"{Trivy,trivy,grype,syft,clair,Clair,snyk,anchore,docker-scout}**" example:"company-scanner/**" doc:"User agents whose pulls do not count as use of an image; with a name that no client has, such as none, all count."`
}

// Push is a pattern of repositories that clients may push to.
type Push struct {
	Match     string   `yaml:"match" form:"short" required:"true" kind:"pattern" example:"local/**" doc:"Repositories that clients may push to."`
	Immutable []string `yaml:"immutable" kind:"pattern" example:"v*" doc:"Tags that never move once they are pushed, and that clients cannot delete."`
}
