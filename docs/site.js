// What scrolls can be reached by keyboard, and the search has a name: the theme has neither
window.addEventListener('load', () => {
  document.querySelector('.md-search')?.setAttribute('aria-label', 'Search');
  for (const box of document.querySelectorAll('.md-typeset__scrollwrap')) {
    box.tabIndex = 0;
    box.setAttribute('role', 'group');
    box.setAttribute('aria-label', 'table');
  }
});
