// Package push answers what would change the registry: uploads, pushes and
// deletes. It is the only place that runs distribution's own handler.
package push
