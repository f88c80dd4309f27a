// Package browser holds tests that open the public pages in a real browser:
// headless Chromium, driven by its command line. They need the packages chromium
// and a font with Chinese characters (fonts-wqy-zenhei).
package browser
