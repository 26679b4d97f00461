dist_man_MANS = \
	man/symm-device.7 \
	man/symm-doctor.1 \
	man/symm-environment.7 \
	man/symm-errors.7 \
	man/symm-examples.7 \
	man/symm-fortran.7 \
	man/symm-keyspace.7 \
	man/symm-python.7 \
	man/symm-rendezvous.7 \
	man/symm-sync-words.7 \
	man/symm.1 \
	man/symm.7 \
	man/symm_alloc.3 \
	man/symm_alloc_size.3 \
	man/symm_allocator_error.3 \
	man/symm_barrier.3 \
	man/symm_barrier_on_stream.3 \
	man/symm_close.3 \
	man/symm_context_local_rank.3 \
	man/symm_context_rank.3 \
	man/symm_context_stats.3 \
	man/symm_context_world_size.3 \
	man/symm_copy.3 \
	man/symm_copy_on_stream.3 \
	man/symm_empty_strided.3 \
	man/symm_free.3 \
	man/symm_get.3 \
	man/symm_get_allocator.3 \
	man/symm_get_buffer.3 \
	man/symm_get_on_stream.3 \
	man/symm_get_signal_pad.3 \
	man/symm_group_find.3 \
	man/symm_group_generation.3 \
	man/symm_group_join.3 \
	man/symm_group_join_ranks.3 \
	man/symm_group_leave.3 \
	man/symm_group_name.3 \
	man/symm_group_rank.3 \
	man/symm_group_status.3 \
	man/symm_group_store.3 \
	man/symm_group_world_size.3 \
	man/symm_has_multicast_support.3 \
	man/symm_is_finalizing.3 \
	man/symm_last_error.3 \
	man/symm_mem_buffer.3 \
	man/symm_mem_buffer_size.3 \
	man/symm_mem_buffers.3 \
	man/symm_mem_buffers_dev.3 \
	man/symm_mem_device_view.3 \
	man/symm_mem_find.3 \
	man/symm_mem_has_multicast.3 \
	man/symm_mem_multicast.3 \
	man/symm_mem_rank.3 \
	man/symm_mem_release.3 \
	man/symm_mem_retain.3 \
	man/symm_mem_signal_pad.3 \
	man/symm_mem_signal_pad_size.3 \
	man/symm_mem_signal_pads.3 \
	man/symm_mem_signal_pads_dev.3 \
	man/symm_mem_sync_words.3 \
	man/symm_mem_world_size.3 \
	man/symm_memset32.3 \
	man/symm_memset32_on_stream.3 \
	man/symm_open.3 \
	man/symm_pool_alloc.3 \
	man/symm_pool_alloc_persistent.3 \
	man/symm_pool_check.3 \
	man/symm_pool_create.3 \
	man/symm_pool_destroy.3 \
	man/symm_pool_free.3 \
	man/symm_pool_mem.3 \
	man/symm_pool_offset.3 \
	man/symm_pool_peer.3 \
	man/symm_pool_usage.3 \
	man/symm_put.3 \
	man/symm_put_on_stream.3 \
	man/symm_put_signal.3 \
	man/symm_put_signal_on_stream.3 \
	man/symm_put_with_signal.3 \
	man/symm_put_with_signal_on_stream.3 \
	man/symm_register_allocator.3 \
	man/symm_rendezvous.3 \
	man/symm_rendezvous_completed.3 \
	man/symm_set_log.3 \
	man/symm_set_trace.3 \
	man/symm_stream_create.3 \
	man/symm_stream_destroy.3 \
	man/symm_stream_synchronize.3 \
	man/symm_strerror.3 \
	man/symm_tensor_alias.3 \
	man/symm_tensor_capsule_end.3 \
	man/symm_tensor_count.3 \
	man/symm_tensor_free.3 \
	man/symm_tensor_mem.3 \
	man/symm_tensor_rendezvous.3 \
	man/symm_tensor_unversioned.3 \
	man/symm_version.3 \
	man/symm_wait_signal.3 \
	man/symm_wait_signal_on_stream.3 \
	man/symm_write_value.3 \
	man/symm_write_value_on_stream.3 \
	man/symmrun.1

EXTRA_DIST += man/topics man/symm.css

# All pages for a browser, in html/. An index that cannot be whole fails the build of it, and t/html.sh.
html-local:
	@if test '$(MANDOC)' = no; then echo "make html: skipped, mandoc is not installed"; \
	else bash $(top_srcdir)/scripts/man2html.sh '$(MANDOC)' html && echo "html/index.html"; fi
install-html-local: html-local
	@if test -d html; then $(MKDIR_P) '$(DESTDIR)$(htmldir)' && \
		$(INSTALL_DATA) html/*.html html/symm.css '$(DESTDIR)$(htmldir)'; fi
uninstall-local: uninstall-html
uninstall-html:
	rm -f '$(DESTDIR)$(htmldir)'/index.html '$(DESTDIR)$(htmldir)'/symm*.html '$(DESTDIR)$(htmldir)'/symm.css
clean-local: clean-html
clean-html:
	rm -rf html
.PHONY: clean-html uninstall-html
