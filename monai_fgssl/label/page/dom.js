// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Helpers to find and make elements of the page.

export const $ = (id) => document.getElementById(id);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

// A name that a server or a person gave, as a part of an address.
export const quoted = encodeURIComponent;
